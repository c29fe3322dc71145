"""Functions of ours under the names, argument orders and defaults that scripts know. Only where the result is equal."""
