"""The console: pages at `/` for people, drawn on the server, with a little script for what moves.

A page is a GET that any key of role read may open; what changes something is a POST with the session's CSRF token, and
most of those need role admin. Nothing is loaded from elsewhere, and the Content-Security-Policy says so.
"""
