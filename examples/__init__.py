"""Ten lines each: orthoviz inside the loops that people already have. Every one runs in the tests.

Each ``train(model, batches)`` takes an image classifier and an iterable of (images, labels), and returns the
losses.
"""
