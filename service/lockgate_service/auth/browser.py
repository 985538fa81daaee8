"""Signing in to the page: a person types a key once, and the browser sends it in a cookie from then on. The service
keeps no session, so a revoked key is out at once."""

from html import escape
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode

from litestar import MediaType, Request, Response, Router, get, post
from litestar.di import NamedDependency

from lockgate_service.auth.guard import refuse_from_elsewhere
from lockgate_service.auth.keys import COOKIE, Keys
from lockgate_service.http.errors import refusal
from lockgate_service.http.middleware import style_source
from lockgate_service.http.problems import RETRY_SECONDS, Refusal

BODY_MAX = 16 * 1024  # bytes: a key has 65, and what was asked for may be long
FIELDS_MAX = 10
THEN_MAX = 4000  # characters
STYLE = """
:root { color-scheme: light dark; --ink: light-dark(#16191d, #e9ecef); --soft: light-dark(#59616b, #9ba5af);
  --ground: light-dark(#f6f7f8, #101316); --paper: light-dark(#fff, #181c20); --line: light-dark(#8a939d, #6c7681);
  --accent: light-dark(#0a6770, #63c7d0); --accent-ink: light-dark(#fff, #06282c);
  --bad: light-dark(#b3261e, #ff8d82); }
* { box-sizing: border-box; }
body { margin: 0; min-height: 100vh; display: grid; place-items: center; padding: 1rem; background: var(--ground);
  color: var(--ink); font: 1rem/1.5 system-ui, sans-serif; }
main { width: 100%; max-width: 26rem; padding: 2rem; background: var(--paper); border-radius: .75rem;
  box-shadow: 0 1px 3px rgb(0 0 0 / .2); }
h1 { display: flex; gap: .5rem; align-items: center; margin: 0 0 1.5rem; font-size: 1.375rem; line-height: 1; }
svg { width: 1.5rem; height: 1.5rem; fill: none; stroke: var(--accent); stroke-width: 2; }
label { display: block; margin-bottom: .25rem; font-weight: 600; }
input, button { width: 100%; padding: .625rem .75rem; border-radius: .375rem; font: inherit; }
input { border: 1px solid var(--line); background: transparent; color: inherit; }
input[aria-invalid] { border-color: var(--bad); }
button { margin-top: 1rem; border: 0; background: var(--accent); color: var(--accent-ink); font-weight: 600;
  cursor: pointer; }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
p { margin: .5rem 0 0; }
.wrong { color: var(--bad); }
.soft { margin-top: 1.5rem; color: var(--soft); font-size: .875rem; }
"""
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Sign in: Lockgate</title>
<link rel="icon" href="data:,">
<style>{style}</style>
</head>
<body>
<main>
<h1><svg viewBox="0 0 24 24" aria-hidden="true"><path d="M4 3v18M20 3v18M4 8l8 4 8-4M4 14l8 4 8-4"/></svg>Lockgate</h1>
<form method="post" action="sign-in">
<label for="key">API key</label>
<input id="key" name="key" type="password" required autofocus autocomplete="current-password" maxlength="200"
 placeholder="lockgate_..." spellcheck="false"{marks}>
{wrong}
<input type="hidden" name="then" value="{then}">
<button>Sign in</button>
</form>
<p class="soft">One that <code>lockgate keys add</code> has made. This browser keeps it in a cookie until it is
closed, or you sign out.</p>
</main>
</body>
</html>
"""
POLICY = (
    f"default-src 'none'; style-src {style_source(STYLE)}; img-src data:; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)


def page(why: Refusal | None = None, then: str = "") -> Response[str]:
    """The form for a key, with what was wrong with the key before. `then`: the query of the page to go on to."""
    said = escape(why.detail.replace("`", "")) if why else ""
    wrong = f'<p class="wrong" id="wrong" role="alert">Not signed in: {said}.</p>' if why else ""
    marks = ' aria-invalid="true" aria-describedby="wrong"' if why else ""
    text = PAGE.format(style=STYLE, wrong=wrong, marks=marks, then=escape(then[:THEN_MAX]))
    headers = {"content-security-policy": POLICY} | (why.headers if why else {})
    if why and why.status == 503:
        headers["retry-after"] = RETRY_SECONDS
    return Response(text, status_code=why.status if why else 401, headers=headers, media_type=MediaType.HTML)


@get("/sign-in", include_in_schema=False)
async def ask_for_key() -> Response[None]:
    """For a browser that loads the form again after a wrong key."""
    return _to_the_page()


@post("/sign-in", include_in_schema=False, request_max_body_size=BODY_MAX)
async def sign_in(
    request: Request[Any, Any, Any], keys: NamedDependency[Keys], root: NamedDependency[str]
) -> Response[Any]:
    """Takes a form with `key` and perhaps `then`."""
    refuse_from_elsewhere(request.headers, sure=False)
    key, then = _of_form(await request.body())
    try:
        caller = await keys.caller(cookie=key)
    except Exception as error:
        if (why := refusal(error)) is None:
            raise
        return page(why, then)
    answer = _to_the_page(then)
    if caller.key is not None:
        answer.headers["set-cookie"] = _cookie(request, root, key)
    return answer


@post("/sign-out", include_in_schema=False, request_max_body_size=BODY_MAX)
async def sign_out(request: Request[Any, Any, Any], root: NamedDependency[str]) -> Response[None]:
    refuse_from_elsewhere(request.headers, sure=False)
    answer = _to_the_page()
    answer.headers["set-cookie"] = f"{_cookie(request, root)}; Max-Age=0"
    return answer


def _cookie(request: Request[Any, Any, Any], root: str, value: str = "") -> str:
    """Good until the browser is closed. No script reads it, and no other site sends it."""
    secure = "; Secure" if request.scope["scheme"] == "https" else ""
    return f"{COOKIE}={value}; Path={root or '/'}; HttpOnly; SameSite=Strict{secure}"


def _of_form(body: bytes) -> tuple[str, str]:
    """The key, and the query of the page to go on to. Each may be empty; both are if the body is no form."""
    try:
        fields = parse_qs(body.decode(), keep_blank_values=True, max_num_fields=FIELDS_MAX)
    except ValueError:
        fields = {}
    return fields.get("key", [""])[0].strip(), fields.get("then", [""])[0][:THEN_MAX]


def _to_the_page(then: str = "") -> Response[None]:
    """Encodes the query anew, so that it leads nowhere else and breaks no header."""
    query = urlencode(parse_qsl(then))
    return Response(None, status_code=303, headers={"location": f"/?{query}" if query else "/"})


ROUTES = Router("/", route_handlers=[ask_for_key, sign_in, sign_out])
