"""Why a training cannot be, each in one line for the person who started it. Without imports: the command catches them
for all recipes, and those of `aura-nano` need none of what reads data sets."""


class DataError(Exception):
    """The data set cannot be trained on; names the file and the line."""


class TrainError(Exception):
    """Training cannot begin or go on."""
