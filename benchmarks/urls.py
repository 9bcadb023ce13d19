"""The URLs of the tests, and an admin without anything of Chroniker's to compare with."""

from __future__ import annotations

from django.contrib import admin
from django.contrib.auth.models import User
from django.urls import path

from tests.urls import urlpatterns as _tests

stock_site = admin.AdminSite(name="stock")


class StockAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """A list of a plain model with as many columns and filters as the list of jobs."""

    list_display = ("username", "email", "last_name", "date_joined")
    list_filter = ("is_staff", "is_active", "is_superuser", "date_joined", "last_login")
    search_fields = ("username", "email", "first_name", "last_name")
    show_full_result_count = False


stock_site.register(User, StockAdmin)
urlpatterns = [*_tests, path("stock/", stock_site.urls)]
