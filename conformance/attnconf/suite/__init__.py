"""The conformance suite, collected by ``pytest -p attnconf --pyargs attnconf.suite``.

One file a family, one test a (backend, model). Which backends and models there are is the plugin's and the profile's
business; the cases under a test are generated, counted into cells, and the first failing one is shrunk and saved.
"""
