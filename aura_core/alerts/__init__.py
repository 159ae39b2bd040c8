"""Alerts that leave the machine: what a standing request found, as a picture at once and as words a moment later.

Off unless asked for. A session's events come in (`watcher`), a policy says which of them count (`policy`), and each
sink (`webhook`, `mqtt`) delivers them in its own time: nothing here ever holds a session up.
"""
