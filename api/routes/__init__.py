"""The calls of version 1, one module a resource. They translate; what they do is done by `admin` and `actors`."""
