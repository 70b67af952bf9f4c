"""`rlpost export`: a trained model as a plain transformers folder, and proof that it is the model that was trained."""
