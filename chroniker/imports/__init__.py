"""Take over jobs from other schedulers: django-chroniker, crontabs, Celery beat, django-q2."""
