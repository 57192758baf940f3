"""Columns of every table of the store: name, type, unit and meaning. docs/results.md lists the same.

The tables are tidy: one number per row in `measurements`, one image per row in the `per_image/*` tables.
Adding a column raises SCHEMA_VERSION; readers fill columns that older files lack with null.
"""

from typing import NamedTuple

import pyarrow as pa

SCHEMA_VERSION = 6
STATUSES = ("complete", "failed", "not_applicable", "stopped")

_TEXT, _INT, _INT32, _FLOAT = pa.string(), pa.int64(), pa.int32(), pa.float64()
_FLOATS, _INT32S, _FLOAT32S = pa.list_(pa.float64()), pa.list_(pa.int32()), pa.list_(pa.float32())
_BYTES = pa.binary()
_TIME = pa.timestamp("us", tz="UTC")


class Column(NamedTuple):
    """One column of a table.

    Attributes:
        name: Its name in Parquet, SQL and MLflow.
        type: Arrow type.
        unit: Unit of a number, or "" for text.
        meaning: One sentence for the reader of docs/results.md.
        required: Whether null is refused.
        may_be_infinite: Whether +inf is a legitimate value (NaN never is).
    """

    name: str
    type: pa.DataType
    unit: str
    meaning: str
    required: bool = False
    may_be_infinite: bool = False


_POINT_ID = Column(
    "point_id", _TEXT, "", "Hash of everything that can change a number of this point.", required=True
)
_MEASURE_ID = Column("measure_id", _TEXT, "", "Hash of the measure and its options.", required=True)
_COMPUTED_BY = Column("computed_by", _TEXT, "", "Id of the trial that computed the row.", required=True)
_STATUS = Column(
    "status",
    _TEXT,
    "",
    "complete, failed, not_applicable, or stopped: its trial was ended early as not promising.",
    required=True,
)
_REASON = Column(
    "reason",
    _TEXT,
    "",
    "Why the number is missing, or what to know of it; for `undecodable`, names of such images.",
)
_IMAGE_INDEX = Column(
    "image_index",
    _INT,
    "",
    "Position in the full data set, before any limit; the key of its noise.",
    required=True,
)
_IMAGE = Column("image", _TEXT, "", "File name or split/number.")
_LABEL = Column("label", _INT, "", "Class index.")

MEASUREMENTS = (
    _POINT_ID,
    _MEASURE_ID,
    Column(
        "curve_id",
        _TEXT,
        "",
        "Hash of the point without its level: rows that share it form a curve.",
        required=True,
    ),
    _COMPUTED_BY,
    Column("dataset", _TEXT, "", "Data set as named in the sweep file."),
    Column("split", _TEXT, "", "Split of the data set, for example test."),
    Column("data_fingerprint", _TEXT, "", "Digest of the data set's content."),
    Column("limit", _INT, "images", "Evenly spaced images taken from the split; null is all."),
    Column("task", _TEXT, "", "Task that gave every image a primary and a secondary label; null is none."),
    Column("secondary_classes", _INT, "classes", "Number of secondary labels; null without a task."),
    Column(
        "train_limit", _INT, "images", "Evenly spaced images from which anything is learned; null is all."
    ),
    Column(
        "class_counts",
        _TEXT,
        "",
        "Images of each class, by label, from which anything is learned, as JSON; null is all.",
    ),
    Column("input_size", _INT, "pixels", "Side of the model's input when the sweep file sets it."),
    Column("model", _TEXT, "", "Network as named in the sweep file."),
    Column(
        "weights", _TEXT, "", "Weights, resolved: prototype, train, random, an enum's name or a file name."
    ),
    Column("weights_digest", _TEXT, "", "Digest of the weights' content."),
    Column("model_seed", _INT, "", "Seed of trained, random or prototype weights."),
    Column("num_classes", _INT, "classes", "Outputs of the network."),
    Column("cut", _TEXT, "", "Where the features are taken: `features` or a module path."),
    Column("mechanism", _TEXT, "", "Mechanism, or the chain of them joined by +."),
    Column("mechanism_json", _TEXT, "", "All parameters of the mechanisms as canonical JSON."),
    Column("level_name", _TEXT, "", "Parameter that is the mechanism's strength, for example noise_scale."),
    Column("level", _FLOAT, "of level_name", "Strength of the mechanism; null for a point without one."),
    Column(
        "noise_scale",
        _FLOAT,
        "RMS of the features",
        "Noise standard deviation relative to the features' RMS.",
    ),
    Column(
        "noise_std",
        _FLOAT,
        "feature units",
        "Noise standard deviation when the sweep file sets it absolutely.",
    ),
    Column(
        "penalty",
        _FLOAT,
        "of the loss",
        "Weight of a learned mechanism's privacy term in its training loss, the papers' lambda.",
    ),
    Column("target_accuracy_loss", _FLOAT, "fraction", "Loss of accuracy for which the level was searched."),
    Column("applied_noise_std", _FLOAT, "feature units", "Noise standard deviation that was really added."),
    Column("mechanism_digest", _TEXT, "", "Digest of what the mechanism learned, and its file in `models/`."),
    Column(
        "validation_top1",
        _FLOAT,
        "fraction",
        "Primary accuracy of the point on the validation part of a data set with a task, at most 2,000 images.",
    ),
    Column("client_flops", _INT, "FLOP per image", "Cost of a learned mechanism's own network."),
    Column("server_flops", _INT, "FLOP per image", "Cost of the network that the server runs."),
    Column("seed", _INT, "", "Seed of the evaluation noise."),
    Column("precision", _TEXT, "", "Number format of the evaluation, for example float32."),
    Column("device_type", _TEXT, "", "cpu or cuda."),
    Column("measure", _TEXT, "", "Name of the measure, for example accuracy or hcr.", required=True),
    Column("options", _TEXT, "", "Options of the measure as canonical JSON."),
    Column(
        "statistic",
        _TEXT,
        "",
        "What the value is, for example top1 or std_bound_median; null in a row that has no value.",
    ),
    Column("value", _FLOAT, "of unit", "The number; null unless status is complete."),
    Column("unit", _TEXT, "", "Unit of value and stderr."),
    Column("n", _INT, "images", "Images that the value rests on."),
    Column("stderr", _FLOAT, "of unit", "Standard error of the value; null where none is defined."),
    Column(
        "holds_for",
        _TEXT,
        "",
        "Which attackers a bound holds for, and what it is an average over; null for what is no bound.",
    ),
    _STATUS,
    _REASON,
    Column(
        "caveat", _TEXT, "", "What the number must not be read as, for example `memorised, not validation`."
    ),
    Column("computed_at", _TIME, "UTC", "When the trial computed this measure."),
    Column(
        "seconds",
        _FLOAT,
        "s",
        "Time the trial spent on this measure, for all its points together.",
    ),
    Column(
        "peak_memory", _FLOAT, "GiB", "Most memory of the device in use by then, since the worker started."
    ),
    Column("node", _TEXT, "", "Host that computed it."),
    Column("device", _TEXT, "", "Device that computed it, by its product name."),
    Column("worker", _TEXT, "", "Id of the worker process on its node."),
    Column("ray_trial_id", _TEXT, "", "Ray Tune's trial id; null for a local run."),
    Column("hushsweep_version", _TEXT, "", "Version of hushsweep."),
    Column("torch_version", _TEXT, "", "Version of PyTorch."),
    Column("git_commit", _TEXT, "", "Commit of the checkout that ran, when it is one."),
    Column("schema_version", _INT32, "", "Version of these columns.", required=True),
)

_ACCURACY = (
    _POINT_ID,
    _MEASURE_ID,
    _COMPUTED_BY,
    _IMAGE_INDEX,
    _IMAGE,
    _LABEL,
    Column("draws", _INT32, "draws", "Noise draws of this image."),
    Column("clean_top1", _INT32, "0 or 1", "Whether the label has the largest clean logit."),
    Column("clean_top5", _INT32, "0 or 1", "Whether the label is among the five largest clean logits."),
    Column("hits_top1", _INT32, "draws", "Draws in which the label has the largest logit."),
    Column("hits_top5", _INT32, "draws", "Draws in which the label is among the five largest logits."),
    _STATUS,
    _REASON,
)

_HCR = (
    _POINT_ID,
    _MEASURE_ID,
    _COMPUTED_BY,
    _IMAGE_INDEX,
    _IMAGE,
    _LABEL,
    Column(
        "std_bound_mean",
        _FLOAT,
        "normalised pixel",
        "Mean over modes of the bound on the standard deviation.",
    ),
    Column("std_bound_median", _FLOAT, "normalised pixel", "Median over modes of the same."),
    Column("std_bound_max", _FLOAT, "normalised pixel", "Largest of them."),
    Column("std_bound_low_mean", _FLOAT, "normalised pixel", "Mean over the low-frequency modes only."),
    Column("mse_bound", _FLOAT, "normalised pixel^2", "Mean over modes of the squared bound."),
    Column("shift_norm", _FLOATS, "normalised pixel", "Euclidean norm of the input shift, per restart."),
    Column("feature_shift_norm", _FLOATS, "feature units", "Norm of the feature displacement, per restart."),
    Column(
        "chi_square", _FLOATS, "", "Chi-square divergence of the shift, per restart.", may_be_infinite=True
    ),
    Column("lsqr_iterations", _INT32S, "iterations", "LSQR iterations, per restart, over all rounds."),
    Column(
        "lsqr_residual", _FLOATS, "", "Residual of the last LSQR solve relative to its target, per restart."
    ),
    _STATUS,
    _REASON,
)

_BOUNDS = (
    _POINT_ID,
    _MEASURE_ID,
    _COMPUTED_BY,
    _IMAGE_INDEX,
    _IMAGE,
    _LABEL,
    Column("bound", _TEXT, "", "Bound, for example cramer_rao; null for an image that could not be decoded."),
    Column("search", _TEXT, "", "Search whose shifts the bound rests on; null where it needs none."),
    Column("holds_for", _TEXT, "", "Which attackers it holds for, and what it is an average over."),
    Column("basis", _TEXT, "", "Basis of the modes, dct or pixel."),
    Column(
        "std_bound_mean",
        _FLOAT,
        "normalised pixel",
        "Mean over modes of the bound on the standard deviation.",
    ),
    Column("std_bound_median", _FLOAT, "normalised pixel", "Median over modes of the same."),
    Column("std_bound_max", _FLOAT, "normalised pixel", "Largest of them."),
    Column("std_bound_low_mean", _FLOAT, "normalised pixel", "Mean over the low-frequency modes only."),
    Column("mse_bound", _FLOAT, "normalised pixel^2", "Bound on the mean squared error per pixel."),
    Column("mse_bound_grey", _FLOAT, "grey level^2", "The same in grey levels 0..255."),
    Column(
        "std_estimate_mean", _FLOAT, "normalised pixel", "Mean over modes of an estimate that is no bound."
    ),
    Column("std_estimate_median", _FLOAT, "normalised pixel", "Median over modes of the same."),
    Column(
        "mse_estimate", _FLOAT, "normalised pixel^2", "Estimate of what a bound could be at most; no bound."
    ),
    Column("mse_estimate_stderr", _FLOAT, "normalised pixel^2", "Its standard error."),
    Column("success_bound", _FLOAT, "fraction", "Largest chance of any attacker to pick the right image."),
    Column("active_features", _INT32, "features", "Features that depend on the input at this image."),
    Column(
        "rank",
        _INT32,
        "",
        "Resolved rank of the Jacobian; of barankin, independent displacements: fewer than shifts, and the true bound "
        "is infinite somewhere.",
    ),
    Column(
        "non_identifiable",
        _FLOAT,
        "fraction",
        "Mean over modes of the share that the features do not depend on at all: no unbiased estimator exists there.",
    ),
    Column(
        "unresolved",
        _FLOAT,
        "fraction",
        "Mean over modes of the share in directions that rounding hides; the bound leaves them out.",
    ),
    Column("shifts", _INT32, "shifts", "Shifts that the bound rests on."),
    Column("still_shifts", _INT32, "shifts", "Shifts left out because they do not move the features at all."),
    Column(
        "infinite_shifts",
        _INT32,
        "shifts",
        "Directions left out: under noise that depends on the image, their divergence is infinite at every length.",
    ),
    Column("linear_shifts", _INT32, "shifts", "Shifts along which the network is linear to rounding."),
    Column(
        "radius",
        _FLOAT,
        "normalised pixel",
        "Norm of the longest move within the feature distance asked for.",
    ),
    Column("distance", _FLOAT, "noise standard deviations", "Distance that this move has in feature space."),
    Column("lsqr_iterations", _INT, "iterations", "LSQR iterations over all shifts of the search."),
    Column("lsqr_residual", _FLOAT, "", "Largest relative residual of its last solves."),
    _STATUS,
    _REASON,
)

_SECONDARY = (
    _POINT_ID,
    _MEASURE_ID,
    _COMPUTED_BY,
    _IMAGE_INDEX,
    _IMAGE,
    Column("label", _INT, "", "Class index of the secondary task: what the attacker is after."),
    Column("primary", _INT, "", "Class index of the primary task."),
    Column(
        "draws",
        _INT32,
        "draws",
        "Noise draws of this image; averaging attackers use several queries for each.",
    ),
    Column("hits_top1", _INT32, "draws", "Draws in which the label has the attacker's largest logit."),
    Column(
        "cross_entropy", _FLOAT, "bit", "Mean over draws of the attacker's -log2 probability of the label."
    ),
    Column("attacker", _TEXT, "", "Name of the trained attacker's file under cache/attackers."),
    Column("epoch", _INT32, "epochs", "Epoch after which it was best on the validation part."),
    Column("validation_top1", _FLOAT, "fraction", "Its accuracy there."),
    Column("validation_images", _INT32, "images", "Images of that part."),
    _STATUS,
    _REASON,
)

_INFORMATION = (
    _POINT_ID,
    _MEASURE_ID,
    _COMPUTED_BY,
    Column(
        "image_index",
        _INT,
        "",
        "Position in the full data set, before any limit; null for a number that all images have together.",
    ),
    _IMAGE,
    _LABEL,
    Column(
        "estimate",
        _TEXT,
        "",
        "Statistic, for example mi_lower_infonce, whose mean over images is the number; null for an image that could "
        "not be decoded.",
    ),
    Column(
        "value", _FLOAT, "of unit", "The image's term of it, or the number itself where image_index is null."
    ),
    Column("unit", _TEXT, "", "bits, or fraction for mi_published."),
    Column("images", _INT, "images", "Images that the number rests on."),
    _STATUS,
    _REASON,
)

_EPSILON = (
    _POINT_ID,
    _MEASURE_ID,
    _COMPUTED_BY,
    Column("image_index", _INT, "", "Null, but for an image that could not be decoded."),
    _IMAGE,
    Column(
        "estimate",
        _TEXT,
        "",
        "Statistic, for example epsilon_pld; null for an image that could not be decoded.",
    ),
    Column("value", _FLOAT, "of unit", "The number; null where there is none, with the reason."),
    Column("unit", _TEXT, "", "nat of an epsilon."),
    Column("images", _INT, "images", "Training images, after over-sampling."),
    _STATUS,
    _REASON,
)

_MEMBERSHIP = (
    _POINT_ID,
    _MEASURE_ID,
    _COMPUTED_BY,
    Column(
        "image_index",
        _INT,
        "",
        "Position in the full train split for members, else in the reported one.",
        required=True,
    ),
    _IMAGE,
    _LABEL,
    Column("member", _INT32, "0 or 1", "Whether it was learned from."),
    Column("loss", _FLOAT, "nat", "Cross-entropy of the label."),
    Column("confidence", _FLOAT, "nat", "log(p / (1 - p)) of the label's probability p."),
    Column("epsilon", _FLOAT, "nat", "Per person, of the training; with the members alone."),
    Column("delta", _FLOAT, "fraction", "Of that epsilon."),
    Column("epsilon_reason", _TEXT, "", "Why there is none, or what it rests on."),
    _STATUS,
    _REASON,
)

_MASKS = (
    _POINT_ID,
    _MEASURE_ID,
    _COMPUTED_BY,
    _IMAGE_INDEX,
    _IMAGE,
    _LABEL,
    Column(
        "weight_mean",
        _FLOAT,
        "fraction",
        "Mean over entries of what stays of them, as in the picture `mask`; null where noise has one size.",
    ),
    Column(
        "rmse_grey",
        _FLOAT,
        "grey level",
        "Root mean square difference of what leaves from the image, before the picture is clipped.",
    ),
    _STATUS,
    _REASON,
)

_RECONSTRUCTION = (
    _POINT_ID,
    _MEASURE_ID,
    _COMPUTED_BY,
    _IMAGE_INDEX,
    _IMAGE,
    _LABEL,
    Column("attack", _TEXT, "", "Attack, for example decoder."),
    Column("draws", _INT32, "draws", "Noise draws of this image, each with a reconstruction."),
    Column("mse", _FLOAT, "normalised pixel^2", "Mean over draws and entries of the squared error."),
    Column("mse_grey", _FLOAT, "grey level^2", "The same in grey levels 0..255."),
    Column("psnr", _FLOAT, "dB", "Mean over draws of 10 log10(255^2 / mse_grey), at most 100."),
    Column("ssim", _FLOAT, "", "Mean over draws of the structural similarity; null below 11 pixels a side."),
    Column(
        "lpips",
        _FLOAT,
        "",
        "Mean over draws of the perceptual distance; null where that was not asked, or images are too small.",
    ),
    Column(
        "recognised",
        _INT32,
        "draws",
        "Draws in which the network under attack gives the reconstruction the true label.",
    ),
    Column(
        "reidentified", _INT32, "draws", "Draws in which the true image is the nearest of the candidates."
    ),
    Column("candidates", _INT32, "images", "Images among which it was looked for."),
    Column(
        "secondary_hits",
        _INT32,
        "draws",
        "Draws in which a network trained on clean images reads the secondary label off the reconstruction; null where "
        "that was not asked.",
    ),
    Column(
        "attacker", _TEXT, "", "Name of the trained decoder's file under cache/attackers; null for others."
    ),
    _STATUS,
    _REASON,
)

_SANDWICH = (
    _POINT_ID,
    _MEASURE_ID,
    _COMPUTED_BY,
    _IMAGE_INDEX,
    _IMAGE,
    _LABEL,
    Column("attack", _TEXT, "", "Attack, for example decoder."),
    Column("bound", _TEXT, "", "two_point or van_trees; null for an image that could not be decoded."),
    Column("holds_for", _TEXT, "", "Whom the bound holds for, and what it and the error are averages over."),
    Column("mse_bound", _FLOAT, "normalised pixel^2", "The bound on the mean squared error per entry."),
    Column(
        "attack_mse",
        _FLOAT,
        "normalised pixel^2",
        "Error of the attack on the inputs that the bound speaks of.",
    ),
    Column("attack_mse_stderr", _FLOAT, "normalised pixel^2", "Its standard error over draws."),
    Column("draws", _INT32, "draws", "Repetitions of noise, and of the prior of van_trees."),
    _STATUS,
    _REASON,
)

_PICTURES = (
    _POINT_ID,
    _MEASURE_ID,
    _COMPUTED_BY,
    _IMAGE_INDEX,
    Column(
        "kind",
        _TEXT,
        "",
        "original, bound (plus the bound with random signs), moved, mask (the client's weights), transformed (what "
        "leaves) or reconstruction.",
        required=True,
    ),
    Column("bound", _TEXT, "", "Bound or attack that the picture shows; null where it shows none."),
    Column("channels", _INT32, "", "Channels of the image.", required=True),
    Column("height", _INT32, "pixels", "Height of the image.", required=True),
    Column("width", _INT32, "pixels", "Width of the image.", required=True),
    Column("pixels", _BYTES, "grey levels", "Channels, rows, columns; one byte each.", required=True),
)

_MODES = (
    _POINT_ID,
    _MEASURE_ID,
    _COMPUTED_BY,
    Column("bound", _TEXT, "", "Bound, for example hcr.", required=True),
    Column("basis", _TEXT, "", "Basis of the modes, for example dct.", required=True),
    Column("channel", _INT32, "", "Channel of the input.", required=True),
    Column("row", _INT32, "", "Vertical frequency, 0 is constant.", required=True),
    Column("column", _INT32, "", "Horizontal frequency, 0 is constant.", required=True),
    Column("search", _TEXT, "", "Search whose shifts the bound rests on; null where it needs none."),
    Column(
        "std_bound", _FLOAT, "normalised pixel", "Mean over images of the mode's bound; null for an estimate."
    ),
    Column("std_estimate", _FLOAT, "normalised pixel", "Mean over images of an estimate that is no bound."),
    Column("non_identifiable", _FLOAT, "fraction", "Mean share of the mode that features do not depend on."),
    Column("unresolved", _FLOAT, "fraction", "Mean share of the mode that rounding hides."),
    Column("n", _INT, "images", "Images in the mean.", required=True),
)

_SHIFTS = (
    _MEASURE_ID,
    _COMPUTED_BY,
    Column("seed", _INT, "", "Seed of the search's starts.", required=True),
    _IMAGE_INDEX,
    Column("restart", _INT32, "", "Number of the start.", required=True),
    Column(
        "reference_noise_std",
        _FLOAT,
        "feature units",
        "Noise for which the shift was searched.",
        required=True,
    ),
    Column(
        "input_shift",
        _FLOAT32S,
        "normalised pixel",
        "Shift of the input, flattened; at noise s it is multiplied by s / reference_noise_std.",
        required=True,
    ),
)

TABLES: dict[str, tuple[Column, ...]] = {
    "measurements": MEASUREMENTS,
    "per_image/accuracy": _ACCURACY,
    "per_image/hcr": _HCR,
    "per_image/bounds": _BOUNDS,
    "per_image/information": _INFORMATION,
    "per_image/epsilon": _EPSILON,
    "per_image/membership": _MEMBERSHIP,
    "per_image/masks": _MASKS,
    "per_image/reconstruction": _RECONSTRUCTION,
    "per_image/sandwich": _SANDWICH,
    "per_image/secondary": _SECONDARY,
    "pictures": _PICTURES,
    "modes": _MODES,
    "shifts": _SHIFTS,
}
"""Table name, which is its folder under the results, to its columns in order."""

PROVENANCE_COLUMNS = (
    "computed_by",
    "computed_at",
    "seconds",
    "peak_memory",
    "node",
    "device",
    "worker",
    "ray_trial_id",
    "hushsweep_version",
    "torch_version",
    "git_commit",
)
"""Columns of `measurements` that say who computed a row and when; two rows are equal if all others are."""


def arrow_schema(table: str) -> pa.Schema:
    """Arrow schema of `table`, without metadata."""
    return pa.schema([pa.field(column.name, column.type) for column in TABLES[table]])


def markdown(table: str) -> str:
    """Describe the columns of `table` as the Markdown table that stands in docs/results.md."""
    lines = ["| column | type | unit | meaning |", "|---|---|---|---|"]
    for column in TABLES[table]:
        kind = f"list<{column.type.value_type}>" if pa.types.is_list(column.type) else str(column.type)
        lines.append(f"| `{column.name}` | {kind} | {column.unit} | {column.meaning} |")
    return "\n".join(lines)
