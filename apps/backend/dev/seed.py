"""Creates an account with N todos: `cargo xtask dev --seed N`."""

import json
import secrets
import sys
import urllib.request

API = "http://127.0.0.1:8000/api/v1"


def post(path: str, body: dict[str, object], token: str = "") -> dict[str, str]:
    headers = {"Content-Type": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    data = json.dumps(body).encode()
    request = urllib.request.Request(API + path, data, headers)  # noqa: S310 - http alone
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
        found: dict[str, str] = json.load(answer)
    return found


def main() -> None:
    count = int(sys.argv[1])
    # Random, because others may have access to the database.
    email = f"dev-{secrets.token_hex(3)}@example.com"
    account: dict[str, object] = {"email": email, "password": secrets.token_urlsafe(9)}
    token = post("/users", account)["token"]
    for number in range(1, count + 1):
        post("/todos", {"title": f"Todo {number}"}, token)
    print(f"{count} todos of {account['email']}, password {account['password']}")


if __name__ == "__main__":
    main()
