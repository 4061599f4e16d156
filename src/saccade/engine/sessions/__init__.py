"""Run any set of weights or bundle through one interface, by the fastest path that was proved equal."""

from saccade.engine.sessions.net import NetSession, open_net

__all__ = ["NetSession", "open_net"]
