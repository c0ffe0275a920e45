"""Users' own models in PyTorch, each with its port to Keras, and what a mistaken author might have written there."""

from __future__ import annotations

from pathlib import Path

PYTORCH = "import torch\nfrom torch import nn\nfrom torch.nn import functional as F\n\n\n"
KERAS = "import keras\nfrom keras import layers\n\n\n"

PORT = """
loss = "{loss}"
[inputs.{input}
[targets]
{targets}
[sides.pytorch]
{pytorch}
[sides.tensorflow]
{tensorflow}
"""

# Keras' running variance is the biased one; PyTorch's is not.
BATCH_NORM = """
class BatchNorm(layers.BatchNormalization):
    def call(self, x, training=None):
        before = keras.ops.copy(self.moving_variance)
        y = super().call(x, training=training)
        if training:
            n = 1
            for size in x.shape[:-1]:
                n *= size
            kept = self.momentum * before
            self.moving_variance.assign(kept + (self.moving_variance - kept) * n / (n - 1))
        return y


"""

DENSE = (
    """class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(6, 16)
        self.norm = nn.BatchNorm1d(16)
        self.second = nn.Linear(16, 16)
        self.drop = nn.Dropout(0.3)
        self.head = nn.Linear(16, 4)

    def forward(self, x):
        x = torch.tanh(self.norm(self.first(x)))
        return self.head(self.drop(F.silu(self.second(x))))


def build():
    return Net()
""",
    """def build():
    x = inputs = keras.Input((6,))
    x = BatchNorm(momentum=0.9, epsilon=1e-5)(layers.Dense(16)(x))
    x = layers.Activation("tanh")(x)
    x = layers.Dense(16, activation="silu")(x)
    x = layers.Dropout(0.5)(x)
    return keras.Model(inputs, layers.Dense(4)(x))
""",
)

RESIDUAL = (
    """class Block(nn.Module):
    def __init__(self, incoming, outgoing, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(incoming, outgoing, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outgoing)
        self.conv2 = nn.Conv2d(outgoing, outgoing, 3, 1, 1, groups=outgoing)
        self.norm2 = nn.BatchNorm2d(outgoing)
        self.shortcut = nn.Conv2d(incoming, outgoing, 1, stride, bias=False)

    def forward(self, x):
        y = self.norm2(self.conv2(F.softplus(self.norm1(self.conv1(x)))))
        return F.softplus(y + self.shortcut(x))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.blocks = nn.ModuleList([Block(4, 6, 2), Block(6, 8, 1)])
        self.up = nn.ConvTranspose2d(8, 5, 2, 2)
        self.head = nn.Linear(5, 4)

    def forward(self, image):
        x = self.stem(image)
        for block in self.blocks:
            x = block(x)
        return self.head(self.up(x).mean((2, 3)))


def build():
    return Net()
""",
    """class Block(layers.Layer):
    def __init__(self, outgoing, stride):
        super().__init__()
        self.pad = layers.ZeroPadding2D(1)
        self.conv1 = layers.Conv2D(outgoing, 3, stride, use_bias=False)
        self.norm1 = BatchNorm(momentum=0.9, epsilon=1e-5)
        self.conv2 = layers.DepthwiseConv2D(3, padding="same")
        self.norm2 = BatchNorm(momentum=0.9, epsilon=1e-5)
        self.shortcut = layers.Conv2D(outgoing, 1, stride, use_bias=False)

    def call(self, x, training=False):
        y = keras.ops.softplus(self.norm1(self.conv1(self.pad(x)), training=training))
        y = self.norm2(self.conv2(y), training=training)
        return keras.ops.softplus(y + self.shortcut(x))


class Net(keras.Model):
    def __init__(self):
        super().__init__()
        self.stem = layers.Conv2D(4, 3, padding="same")
        self.blocks = [Block(6, 2), Block(8, 1)]
        self.up = layers.Conv2DTranspose(5, 2, 2)
        self.pool = layers.GlobalAveragePooling2D()
        self.head = layers.Dense(4)

    def call(self, image):
        x = self.stem(image)
        for block in self.blocks:
            x = block(x)
        return self.head(self.pool(self.up(x)))


def build():
    net = Net()
    net(keras.ops.zeros((1, 6, 6, 3)))
    return net
""",
)

LSTM = (
    """class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(5, 7, num_layers=2, batch_first=True)
        self.head = nn.Linear(7, 4)

    def forward(self, x):
        return self.head(self.lstm(x)[0])


def build():
    return Net()
""",
    """class Cell(layers.LSTMCell):
    def call(self, x, states, training=None):
        h, c = states
        z = x @ self.kernel + h @ self.recurrent_kernel + self.bias
        i, f, g, o = keras.ops.split(z, 4, axis=-1)
        c = keras.ops.sigmoid(f) * c + keras.ops.sigmoid(i) * keras.ops.tanh(g)
        h = keras.ops.sigmoid(o) * keras.ops.tanh(c)
        return h, [h, c]


def build():
    return keras.Sequential([
        keras.Input((6, 5)),
        layers.LSTM(7, return_sequences=True, dropout=0.2),
        layers.RNN(Cell(7), return_sequences=True),
        layers.Dense(4),
    ])
""",
)

GRU = (
    """class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(11, 5)
        self.gru = nn.GRU(5, 7, batch_first=True, bidirectional=True)
        self.rnn = nn.RNN(14, 6, batch_first=True)
        self.head = nn.Linear(6, 3)

    def forward(self, tokens):
        return self.head(self.rnn(self.gru(self.embedding(tokens))[0])[0][:, -1])


def build():
    return Net()
""",
    """class Net(keras.Model):
    def __init__(self):
        super().__init__()
        self.embedding = layers.Embedding(11, 5)
        self.gru = layers.Bidirectional(layers.GRU(7, return_sequences=True))
        self.rnn = layers.SimpleRNN(6)
        self.head = layers.Dense(3)

    def call(self, tokens):
        return self.head(self.rnn(self.gru(self.embedding(tokens))))


def build():
    net = Net()
    net(keras.ops.zeros((1, 6), "int32"))
    return net
""",
)

# Both sides, and what stands in the manifest of inputs, targets and each side.
MODELS: dict[str, tuple[tuple[str, str], dict[str, str]]] = {
    "dense": (DENSE, {"input": "x]\nshape = [6]", "targets": "classes = 4"}),
    "residual": (
        RESIDUAL,
        {
            "input": "image]\nshape = [3, 6, 6]", "targets": "classes = 4",
            "tensorflow": "inputs.image = [0, 2, 3, 1]",
        },
    ),
    "lstm": (
        LSTM,
        {
            "input": "x]\nshape = [6, 5]", "targets": "shape = [6, 4]", "loss": "squared-error",
            "pytorch": "weights.'lstm\\.bias_hh_l.' = { zero = true }",
        },
    ),
    "gru": (
        GRU,
        {
            "input": 'tokens]\nshape = [6]\ndtype = "int64"\nbelow = 11', "targets": "classes = 3",
            "pytorch": "weights.'rnn\\.bias_hh_l0' = { zero = true }",
        },
    ),
}  # fmt: skip

# What each is trained with; the others by gradient descent.
OPTIMISERS = {"lstm": "momentum", "gru": "adam", "transformer": "adam"}

FAULTS: tuple[tuple[str, str, str, str, str], ...] = (
    ("epsilon", "dense", "epsilon=1e-5", "epsilon=1e-3", "outputs"),
    ("momentum", "dense", "momentum=0.9", "momentum=0.99", "weight 'norm.mean' after"),
    ("activation", "dense", '"silu"', '"gelu"', "outputs"),
    ("variance", "dense", "= BatchNorm(", "= layers.BatchNormalization(", "weight 'norm.variance' after"),
    ("inference", "dense", "super().call(x, training=training)", "super().call(x, training=False)", "loss"),
    ("gradient", "dense", 'layers.Activation("tanh")(x)', 'layers.Activation("tanh")(keras.ops.stop_gradient(x))',
     "gradient of 'norm.bias'"),
    ("padding", "residual", "ZeroPadding2D(1)", "ZeroPadding2D(((0, 2), (0, 2)))", "outputs"),
    ("order of axes", "residual", "self.stem(image)", "self.stem(keras.ops.swapaxes(image, 1, 2))", "outputs"),
    ("no shortcut", "residual", "softplus(y + self.shortcut(x))", "softplus(y + 0 * self.shortcut(x))", "outputs"),
    ("backwards", "lstm", "dropout=0.2", "go_backwards=True", "outputs"),
    ("hard gates", "lstm", "dropout=0.2", 'recurrent_activation="hard_sigmoid"', "outputs"),
    ("gates swapped", "lstm", "i, f, g, o =", "f, i, g, o =", "outputs"),
    ("directions", "gru", "self.gru(self.embedding(tokens))", "self.gru(self.embedding(tokens))[..., ::-1]", "outputs"),
    ("last step", "gru", "layers.SimpleRNN(6)", "layers.SimpleRNN(6, go_backwards=True)", "outputs"),
    ("a bias that is not added", "residual", "self.stem(image)", "self.stem(image) - self.stem.bias", "outputs"),
)  # fmt: skip
"""Name, model, what stands once in the Keras side, what is written instead, and how what differs first begins."""


def write(folder: Path, name: str, there: str = "", written: str = "") -> Path:
    """A model's folder, with a fault in the Keras side if one is given."""
    (pytorch, tensorflow), told = MODELS[name]
    text = KERAS + BATCH_NORM.lstrip("\n") + tensorflow
    if there:
        assert text.count(there) == 1, there
        text = text.replace(there, written)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pytorch_model.py").write_text(PYTORCH + pytorch)
    (folder / "tensorflow_model.py").write_text(text)
    said = {"loss": "cross-entropy", "pytorch": "", "tensorflow": "", **told}
    (folder / "port.toml").write_text(f'name = "{name}"\n' + PORT.format(**said))
    return folder
