"""Encoders, heads, losses, data sets, training and evaluation, in torch. Serving never imports any of it.

The road of a model: `dataset` folds events with the very core that serves and keeps the features of each
step; `recommender` is what is trained; `train` trains it into a run folder; `export` makes that a bundle.
"""
