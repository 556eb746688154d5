#!/bin/sh
# Learning at scale with verl: our exported reward function, and the rollouts as a run of ours.
# Needs what verl needs (GPUs, and vLLM or SGLang). Usage: sh recipes/verl_grpo.sh MODEL TRAIN.jsonl DEV.jsonl OUT
set -eu
model=$1 train=$2 dev=$3 out=$4
mkdir -p "$out"

lockedroom export scorer --to verl --out "$out/reward.py"
python recipes/verl_rows.py "$train" "$out/train.parquet"
python recipes/verl_rows.py "$dev" "$out/dev.parquet"

python -m verl.trainer.main_ppo \
  algorithm.adv_estimator=grpo \
  data.train_files="$out/train.parquet" data.val_files="$out/dev.parquet" \
  data.train_batch_size=64 data.max_prompt_length=512 data.max_response_length=256 \
  actor_rollout_ref.model.path="$model" \
  actor_rollout_ref.rollout.name=vllm actor_rollout_ref.rollout.n=8 \
  actor_rollout_ref.actor.use_kl_loss=True actor_rollout_ref.actor.kl_loss_coef=0.02 \
  reward.custom_reward_function.path="$out/reward.py" reward.custom_reward_function.name=compute_score \
  trainer.rollout_data_dir="$out/rollouts" trainer.logger='["console"]'

lockedroom import "$out/rollouts" --from verl --out "$out/imported"
lockedroom evaluate --dataset "$out/imported/examples.jsonl" --completions "$out/imported/completions.jsonl" --out "$out/run"
lockedroom verify "$out/run"
