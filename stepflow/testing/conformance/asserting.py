"""Let the claims' assertions say what they compared, as those of a test file do.

pytest rewrites the assertions of test files alone, unless it is told before the module is imported:
`__init__.py` imports this one first.
"""

import pytest

pytest.register_assert_rewrite("stepflow.testing.conformance.claims")
