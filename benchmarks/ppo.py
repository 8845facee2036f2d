"""PPO of Stable-Baselines3 on RankSearchEnv, as a searcher (`pip install stable-baselines3`)."""

from __future__ import annotations

from stable_baselines3 import PPO

from espnet_shrink.search.env import RankSearchEnv
from espnet_shrink.search.evaluate import Evaluator
from espnet_shrink.search.problem import Problem
from espnet_shrink.search.settings import SearchSettings

EPISODES = 6  # plans an update learns from


def search(problem: Problem, evaluate: Evaluator, settings: SearchSettings) -> None:
    """Learn from batches of plans until the evaluations are spent."""
    env = RankSearchEnv(problem, lambda plan: evaluate([plan], "ppo")[0])
    steps = EPISODES * len(problem.sites)
    agent = PPO("MlpPolicy", env, n_steps=steps, batch_size=steps, seed=settings.seed,
                gamma=1.0, device="cpu")  # fmt: skip
    agent.learn(10**9)  # the evaluator ends it
