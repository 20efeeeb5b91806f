"""Small data and a small model that each task can be tried with: name (and variant) -> tables of an experiment.

Every task plug-in must be here (tests/contracts/test_tasks.py); add yours, and a line for each variant of its loss.
"""

DIGITS = """
[data]
name = "digits"
[partition]
name = "dirichlet"
clients = 4
alpha = 0.5
[model]
name = "mlp"
hidden = [8]
"""
TOPICS = """
[data]
name = "python_topics"
sequence_length = 20
validation = 0.0
test = 0.01
[partition]
name = "natural"
by = "topic"
clients = 4
at_least = 20
[model]
name = "lstm"
embedding = 2
width = 4
layers = 1
"""

ANGLES = """
[data]
name = "rotated_digits"
[partition]
name = "shards"
by = "range"
clients = 8
[model]
name = "mlp"
hidden = [8]
"""
SHEETS = """
[data]
name = "unseen_classes"
[partition]
name = "iid"
clients = 4
[model]
name = "mlp"
hidden = [8]
"""
WORLDS = """
[data]
name = "worlds"
worlds = 4
episodes = 20
validation = 2
test = 5
[partition]
name = "natural"
by = "world"
[model]
name = "policy"
hidden = [8]
"""
SERIES = """
[data]
name = "series"
sets = ["macrodata"]
window = 8
horizon = 4
[partition]
name = "natural"
by = "series"
[model]
name = "gru"
width = 4
"""
BANDITS = """
[data]
name = "bandits"
arms = 3
pulls = 3
families = 4
trials = 20
validation = 2
test = 6
[partition]
name = "natural"
by = "family"
[model]
name = "gru"
width = 4
answers = "every"
"""
FUNCTIONS = """
[data]
name = "functions"
shots = 3
families = 4
sequences = 20
validation = 2
test = 6
[partition]
name = "natural"
by = "family"
[model]
name = "gru"
width = 4
answers = "every"
"""

SINUSOIDS = """
[data]
name = "sinusoids"
sinusoids = 4
episodes = 3
points = 8
validation = 5
test = 7
[partition]
name = "natural"
by = "sinusoid"
[model]
name = "mlp"
hidden = [6]
"""
TASKS: dict[str, str] = {
    "classification": DIGITS + '[task]\nname = "classification"\n',
    "regression": ANGLES + '[task]\nname = "regression"\nscale = 30.0\nunit = "degrees"\n',
    "verification": SHEETS + '[task]\nname = "verification"\n',
    "verification, triplet": SHEETS + '[task]\nname = "verification"\nloss = "triplet"\nmargin = 0.5\n',
    "forecast": SERIES + '[task]\nname = "forecast"\nperiod = 4\n',
    "correlations": SERIES + '[task]\nname = "correlations"\n',
    "bandits": BANDITS + '[task]\nname = "bandits"\ntrials = 20\nbatch_size = 12\nepisodes = 3\n',
    "in_context": FUNCTIONS + '[task]\nname = "in_context"\n',
    "control": WORLDS + '[task]\nname = "control"\nenvironments = 2\nsteps = 20\nbatch_size = 20\n',
    "adaptation": SINUSOIDS + '[task]\nname = "adaptation"\nbatch_size = 2\nevaluation_steps = 2\n',
    "adaptation, learned rates": SHEETS + '[task]\nname = "adaptation"\nshots = 1\nlearned_rates = true\n',
    "prototypes": SHEETS + '[task]\nname = "prototypes"\nbatch_size = 3\n',
    "next_character": TOPICS + '[task]\nname = "next_character"\nbatch_size = 40\n',
}
