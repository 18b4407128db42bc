"""The workflows that the claims run: `register` gives them to a flow."""

from stepflow.testing.conformance.workflows.registering import register

__all__ = ["register"]
