"""Networks as (features, head) at a named cut."""
