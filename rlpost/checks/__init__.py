"""Parts of the configuration check: values against annotations, nodes against signatures, trainer fields, batches."""
