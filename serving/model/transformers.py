"""Transformers of your own: the classes and functions that the pickle of a model may import.

The service imports this module, and the model card has the digest of its source. See
docs/your-model.md. A pickle may call what is defined here with any arguments, so that nothing here
may write a file, import a module by its name or execute text.
"""
