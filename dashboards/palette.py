"""Colours and words that every picture shares, whatever draws it."""

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#4D4D4D")
"""Okabe and Ito's, told apart with any colour vision; further curves repeat them with other markers."""
INK, MUTED, GRID = "#1F2328", "#57606A", "#E4E7EB"
LEVELS = {
    "noise_scale": "noise scale  (standard deviation / RMS of the features)",
    "penalty": "penalty  (weight of the privacy term)",
    "noise_std": "noise standard deviation  (feature units)",
}
"""What stands at a noise axis, by the name of the level."""
