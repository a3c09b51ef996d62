from tests.pipeline.conftest import model  # noqa: F401
