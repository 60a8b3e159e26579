"""The test suite: `python -m unittest discover -s restapi/tests -t restapi`."""
