"""From a trained model to a bundle folder, with proof that both compute the same."""
