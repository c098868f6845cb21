"""A training that takes a second or two."""

CONFIG = """
name = "tiny"
seed = 3

[actor]
hidden = [16]

[learner]
env_steps = 300
tasks_per_batch = 2
n_runs = 4
epochs = 2
minibatches = 2
evaluate_every = 1

[tasks]
n_tasks = 3
n_validation = 1
decisions = [4, 6]
interval = [2, 3]

[tasks.dataset.digits]
source = "digits"
task = "image-classification"
input = "image"
target = "label"
max_train = 200
max_validation = 60

[[tasks.family]]
dataset = "digits"
model = { family = "mlp" }
depth = [1, 3]
width = [8]
batch_size = [16]
optimizer = ["sgd", "adamw"]
gain = [0.7, 1.5]
label_noise = [0.0, 0.3]

[[tasks.family]]
weight = 0.01
dataset = "digits"
model = { family = "mlp" }
depth = [1, 1]
width = [8]
batch_size = [16]
optimizer = ["adam"]
"""
