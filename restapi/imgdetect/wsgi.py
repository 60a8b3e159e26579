"""The application that gunicorn serves."""

from imgdetect import config, logs
from imgdetect.web import create_app

_settings = config.load()
logs.configure(_settings.log_format, _settings.log_level)
app = create_app(_settings)
