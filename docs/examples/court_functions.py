# ruff: noqa: ARG001, PLR0917  # the arguments are those of the shape, used or not
"""Losses and advantage functions for `lockedroom court --module`: three that are right, and the usual ways to be wrong."""

import torch


def rloo_advantage(token_level_rewards, response_mask, index):
    """--shape verl-advantage. Leave-one-out by prompt: unbiased."""
    reward = token_level_rewards.sum(-1)
    advantage = torch.zeros_like(reward)
    for row, name in enumerate(index):
        others = [reward[i] for i, other in enumerate(index) if other == name and i != row]
        advantage[row] = reward[row] - sum(others) / len(others) if others else 0.0
    advantage = advantage.unsqueeze(-1) * response_mask
    return advantage, advantage


def grpo_advantage(token_level_rewards, response_mask, index, epsilon=1e-6):
    """--shape verl-advantage. Divides by the group's standard deviation: biased. A group of one gives NaN."""
    reward = token_level_rewards.sum(-1)
    advantage = torch.zeros_like(reward)
    for name in set(index):
        rows = [i for i, other in enumerate(index) if other == name]
        group = reward[rows]
        advantage[rows] = (group - group.mean()) / (group.std() + epsilon)
    advantage = advantage.unsqueeze(-1) * response_mask
    return advantage, advantage


def in_order_advantage(token_level_rewards, response_mask, index):
    """--shape verl-advantage. Right while the rows of a prompt stand together: it never looks at `index`."""
    reward = token_level_rewards.sum(-1)
    prompts = len(set(index))
    group = reward.view(prompts, -1)
    size = group.shape[1]
    advantage = (group - (group.sum(-1, keepdim=True) - group) / max(size - 1, 1)).flatten()
    advantage = advantage.unsqueeze(-1) * response_mask
    return advantage, advantage


def clipped_loss(old_log_prob, log_prob, advantages, response_mask, cliprange):
    """--shape verl-loss --with cliprange=0.2. Sum over tokens, mean over completions: unbiased at the first update."""
    ratio = torch.exp(log_prob - old_log_prob)
    clipped = torch.clamp(ratio, 1 - cliprange, 1 + cliprange)
    gain = torch.minimum(ratio * advantages, clipped * advantages)
    return -(gain * response_mask).sum() / len(log_prob), 0.0


def token_mean_loss(old_log_prob, log_prob, advantages, response_mask, cliprange):
    """--shape verl-loss --with cliprange=0.2. The mean over all tokens: biased, and it depends on the micro-batches."""
    ratio = torch.exp(log_prob - old_log_prob)
    clipped = torch.clamp(ratio, 1 - cliprange, 1 + cliprange)
    loss = torch.maximum(-ratio * advantages, -clipped * advantages)
    return (loss * response_mask).sum() / response_mask.sum(), 0.0


def inverted_clip_loss(old_log_prob, log_prob, advantages, response_mask, cliprange):
    """--shape verl-loss --with cliprange=0.2. The larger of the two where the smaller belongs. No first update shows it."""
    ratio = torch.exp(log_prob - old_log_prob)
    clipped = torch.clamp(ratio, 1 - cliprange, 1 + cliprange)
    gain = torch.maximum(ratio * advantages, clipped * advantages)
    return -(gain * response_mask).sum() / len(log_prob), 0.0


def grpo_loss(
    per_token_logps, old_per_token_logps, ref_per_token_logps, advantages, completion_mask, beta=0.04, epsilon=0.2
):
    """--shape trl-loss --beta 0.04. k3 in the loss and each completion's own mean: biased twice."""
    ratio = torch.exp(per_token_logps - old_per_token_logps)
    clipped = torch.clamp(ratio, 1 - epsilon, 1 + epsilon)
    gain = torch.min(ratio * advantages.unsqueeze(1), clipped * advantages.unsqueeze(1))
    log_ratio = ref_per_token_logps - per_token_logps
    loss = -gain + beta * (torch.exp(log_ratio) - log_ratio - 1)
    return ((loss * completion_mask).sum(1) / completion_mask.sum(1)).mean()


def padded_width_loss(per_token_logps, old_per_token_logps, ref_per_token_logps, advantages, completion_mask):
    """--shape trl-loss. Divides by the width of the tensor: the longest completion of the micro-batch sets the step."""
    gain = torch.exp(per_token_logps - old_per_token_logps) * advantages.unsqueeze(1)
    return -(gain * completion_mask).sum() / completion_mask.numel()


def reinforce_loss(logprobs, old_logprobs, ref_logprobs, advantages, mask):
    """--shape loss. Williams 1992: unbiased."""
    return -((logprobs * mask).sum(-1) * advantages).mean()


def penalised_loss(logprobs, old_logprobs, ref_logprobs, advantages, mask, beta=0.1):
    """--shape loss --beta 0.1. Looks as if it held the policy near its reference; its expected gradient does not."""
    log_ratio = ((logprobs - ref_logprobs) * mask).sum(-1)
    return -((logprobs * mask).sum(-1) * advantages).mean() + beta * log_ratio.mean()


def climbs_down(logprobs, old_logprobs, ref_logprobs, advantages, mask):
    """--shape loss. The sign is lost."""
    return ((logprobs * mask).sum(-1) * advantages).mean()


def unmasked_loss(logprobs, old_logprobs, ref_logprobs, advantages, mask):
    """--shape loss. Right as long as everything outside the mask is 0."""
    return -(logprobs.sum(-1) * advantages).mean()


def group_mean_advantages(rewards):
    """--shape advantages. The mean holds the completion's own reward: the gradient is 1 - 1/n of ∇J."""
    return rewards - rewards.mean(-1, keepdim=True)
