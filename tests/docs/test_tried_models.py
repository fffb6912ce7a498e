"""docs/your-model.md: the table of models that were tried has the models of the tests."""

from documentation import table
from zoo import ZOO


def test_every_model_of_the_tests_is_listed():
    """A row for each model, with its data; all requests are answered, as tests/protocols shows."""
    expected = []
    for name, (load_data, _) in ZOO.items():
        expected.append([name, load_data.__name__.replace("_", " "), "yes"])
    rows = table("your-model.md", "Models that were tried")
    assert [row[:3] for row in rows] == expected
