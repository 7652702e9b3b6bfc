"""Channel-wise competition: every layer is a classifier whose classes are groups of its own channels.

Forward-forward needs false data to know what to be silent about. Here the layer itself supplies the contrast: its
channels are split into as many groups as there are classes, and a group's goodness is the mean square of its activity,
over its channels and over all places of an image:

    g_j = mean of h_cp² over the channels c of group j and all places p

The goodness values are the logits of a softmax over classes, and each layer descends its own cross-entropy: the group
of the true class is to be loud, and louder than the others. There are no negatives, no labels in the input and no
auxiliary weights; nothing is sent from layer to layer but activity, normalised so that the next layer cannot read the
answer off its length. In a dense layer every unit is a channel with a single place.

What is known to matter: the number of channels per class, since one channel must stand for a whole class where there
are no more; and how a prediction is read: each layer alone is a classifier, and which of them to listen to is a choice
made afterwards. In the original, convolutions within groups alternate with convolutions across them ("CFSE blocks");
a network of this lab is the same for every rule, so its connections all go across.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from algorithms.forward_forward import normalise
from algorithms.rule import Activations, Batch, Net, Rule, RuleInfo, cross_entropy, directions, forward_pass, stateless
from algorithms.settings import choice, require_hidden, require_no_batch_norm


def cwc(evaluation: str = "goodness") -> Rule:
    """Channel-wise competitive learning: cross-entropy over the goodness of channel groups, layer by layer.

    loss_l = -log(exp g_y / Σ_j exp g_j),    h_l = f(W_l normalise(h_{l-1}) + b_l)

    The last block is a softmax readout that learns by its own local gradient from the top hidden layer. A layer of
    fewer channels than classes has a group for several neighbouring classes at once.

    Args:
        evaluation: what a prediction is read from. "goodness": the groups' goodness summed over all hidden layers;
            "last": the goodness of the last hidden layer's groups; "readout": the softmax readout.

    Reference: Papachristodoulou, Kyrkou, Timotheou & Theocharides (2024), arXiv:2312.12668.
    """
    choice("cwc", "evaluation", evaluation, ("goodness", "last", "readout"))

    def check(net: Net):
        require_hidden("cwc", net)
        require_no_batch_norm(
            "cwc", net, "blocks are given normalised activity, and running averages are kept of a chain without that"
        )

    def surrogate(key, net: Net, params, state, batch: Batch, taps):
        del key, state
        hs = forward_pass(net, params, batch.x, taps, link=lambda h: normalise(jax.lax.stop_gradient(h)))
        local = [competition(group_goodness(h, net.classes), batch.y, net.classes).mean() for h in hs[:-1]]
        readout = cross_entropy(hs[-1], batch.y).mean()
        loss = sum(local)
        return loss + readout, {"loss": loss, "readout_loss": readout}

    def forward(net: Net, params, state, x):
        del state
        *hidden, logits = forward_pass(net, params, x, link=normalise)
        votes = [of_each_class(group_goodness(h, net.classes), net.classes) for h in hidden]
        scores = {"goodness": sum(votes), "last": votes[-1], "readout": logits}[evaluation]
        return Activations(tuple(hidden), scores)

    def objective(net: Net, params, state, batch: Batch):
        del state
        return cross_entropy(forward_pass(net, params, batch.x, link=normalise)[-1], batch.y).mean()

    grads, errors = directions(surrogate)
    return Rule(info=CWC, grads=grads, errors=errors, init=stateless(check), forward=forward, objective=objective)


def groups_of(members: int, groups: int) -> Int[Array, " members"]:
    """The group of each of `members` channels or classes: neighbours together, in sizes that differ by at most one."""
    return jnp.arange(members) * groups // members


def group_goodness(h: Float[Array, "batch ... channels"], classes: int) -> Float[Array, "batch groups"]:
    """Mean square of the activity of each channel group, over its channels and all places.

    There is a group per class, or per channel where channels are fewer.
    """
    channels = h.shape[-1]
    groups = min(channels, classes)
    member = jax.nn.one_hot(groups_of(channels, groups), groups, dtype=h.dtype)
    loudness = jnp.mean(h.reshape(len(h), -1, channels) ** 2, axis=1)
    return loudness @ (member / member.sum(0))


def of_each_class(g: Float[Array, "batch groups"], classes: int) -> Float[Array, "batch classes"]:
    """The goodness of the group that stands for each class."""
    return g[:, groups_of(classes, g.shape[1])]


def competition(g: Float[Array, "batch groups"], y: Int[Array, " batch"], classes: int) -> Float[Array, " batch"]:
    """Cross-entropy of each sample over the groups, for the group that stands for its class."""
    return cross_entropy(g, groups_of(classes, g.shape[1])[y])


CWC = RuleInfo(
    name="cwc",
    title="channel-wise competition: in every layer, the loudest group of channels names the class",
    equation="loss_l = -log softmax(g)_y;  g_j = mean over group j of h^2;  h_l = f(W_l h_{l-1} / rms(h_{l-1}) + b_l), "
    "but the image enters as it is",
    citation="Papachristodoulou, Kyrkou, Timotheou & Theocharides (2024), Convolutional channel-wise competitive "
    "learning for the forward-forward algorithm, arXiv:2312.12668",
    transports="nothing backwards beyond a block; the label, to every layer's groups",
    requires="any network with a hidden block and without batch normalisation; more channels than classes in every "
    "layer to do well",
    deviations=(
        "no convolution within groups: the network is the run's own, so every connection goes across groups",
        "activity is divided by its root mean square per sample in the place of batch normalisation",
        "all layers learn during the whole run, with the run's optimiser, not layer after layer (the paper's schedule)",
        "the network's own pooling (mean) and depth; in a dense layer each unit is a channel; in a composite block the "
        "gradient of its local loss is exact within the block",
        "channels that do not divide evenly among the classes make groups whose sizes differ by one",
        "fewer channels than classes share groups between neighbouring classes, which the paper does for CIFAR-100",
    ),
    passes="3 (one forward, one backward through single blocks)",
    representation="the activities of a forward pass in which each block is given the normalised activity of the one "
    "below, before that normalisation",
)
