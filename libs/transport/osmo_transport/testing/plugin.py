"""The pytest plugin: fixtures that run a test over every installed implementation."""
