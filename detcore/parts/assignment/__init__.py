"""Which prediction of a network learns which object."""
