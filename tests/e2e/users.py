"""More annotators for a Label Studio under test, signed up by its invitation link."""

from __future__ import annotations

import secrets

import httpx

from backend.demo.stack import Stack
from backend.label_studio.client import LabelStudio


def add_annotator(stack: Stack) -> LabelStudio:
    """A new user of the organization, as a client with the user's own legacy token."""
    invitation = stack.client().request("GET", "/api/invite")["invite_url"]
    with httpx.Client(base_url=stack.label_studio_url, follow_redirects=True) as browser:
        browser.get(invitation)
        form = {
            "email": f"{secrets.token_hex(4)}@example.com",
            "password": secrets.token_hex(8),
            "csrfmiddlewaretoken": browser.cookies["csrftoken"],
        }
        answer = browser.post(invitation, data=form, headers={"Referer": stack.label_studio_url})
        assert answer.status_code == 200, answer.text[:300]
        return LabelStudio(stack.label_studio_url, browser.get("/api/current-user/token").json()["token"])
