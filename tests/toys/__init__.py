"""A family and a head that lie outside the package: nothing in it knows of them, and everything works with them."""
