"""A logged model goes into the registry: compared with the one it would replace, registered, its alias moved."""
