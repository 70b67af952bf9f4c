"""Coefficients of a term that depend on the term's own mean over the whole optimizer step.

`mean` is sum(W * M * value) over all micro-batches and ranks, measured by the step in a pass without a gradient. A
coefficient is a node of its own under `coef` of an objective or a regularizer.
"""


def hinge(mean: float, *, scale: float, threshold: float) -> float:
    """Zero while the mean stays below a threshold, then growing with the excess: a squared hinge as a penalty.

    Equation:
        coef = scale * max(mean - threshold, 0)

    Gradient:
        The coefficient is constant, so coef * mean has the gradient of (scale / 2) * max(mean - threshold, 0)^2.

    Reduces to:
        coef 0 for scale 0; a penalty scale/2 * mean^2 for threshold 0 and a mean that is positive.

    Edge cases:
        The reported value of the term is coef * mean, not the squared hinge.

    Paper:
        DisCO, arXiv 2505.12366, eq. 8: scale is its beta, threshold its delta.
    """
    return scale * max(mean - threshold, 0.0)
