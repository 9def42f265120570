"""Pages in a real browser without a network: the report, and what `asv publish` wrote, in headless Chromium."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

# What asv's index.html loads from other hosts, by the path in the address: the npm package, and the file in it.
FILES = {
    "jquery-3.3.1.min.js": ("jquery@3.3.1", "dist/jquery.min.js"),
    "ajax/libs/flot/0.8.3/jquery.flot.min.js": ("flot@0.8.3", "jquery.flot.js"),
    "ajax/libs/flot/0.8.3/jquery.flot.time.min.js": ("flot@0.8.3", "jquery.flot.time.js"),
    "ajax/libs/flot/0.8.3/jquery.flot.selection.min.js": ("flot@0.8.3", "jquery.flot.selection.js"),
    "ajax/libs/flot/0.8.3/jquery.flot.categories.min.js": ("flot@0.8.3", "jquery.flot.categories.js"),
    "npm/flot-orderbars@1.0.0/js/jquery.flot.orderBars.js": ("flot-orderbars@1.0.0", "js/jquery.flot.orderBars.js"),
    # 1.0.1 is not on npm: 1.1.3 is the only version there.
    "ajax/libs/stupidtable/1.0.1/stupidtable.min.js": ("stupid-table-plugin@1.1.3", "stupidtable.min.js"),
    "ajax/libs/blueimp-md5/2.19.0/js/md5.min.js": ("blueimp-md5@2.19.0", "js/md5.min.js"),
    "npm/bootstrap@3.1.1/dist/js/bootstrap.min.js": ("bootstrap@3.1.1", "dist/js/bootstrap.min.js"),
    "npm/bootstrap@3.1.1/dist/css/bootstrap.min.css": ("bootstrap@3.1.1", "dist/css/bootstrap.min.css"),
}
# Not the bytes that the page means: npm has no minified files of flot, and another version of the second. All others
# keep the page's own integrity attribute, which the browser checks.
DIFFERENT = {"flot@0.8.3", "stupid-table-plugin@1.1.3"}
# A line of Chromium's log, or several: [process:thread:time:INFO:CONSOLE:line] "text", source: address (line)
CONSOLE = re.compile(r'^\[[^]\n]*:CONSOLE[:(]\d+\)?\] "(.*?)", source: (\S* \(\d+\))$', re.DOTALL | re.MULTILINE)
# A file that does not load is not in that log, nor is JSON that jQuery cannot read. This, in the page, puts them there.
REPORT = """<script>
addEventListener("error", (event) => {
  if (event.target !== window) console.error("not loaded: " + (event.target.src || event.target.href));
}, true);
addEventListener("DOMContentLoaded", () => {
  if (window.jQuery) jQuery(document).ajaxError((event, request, ajax, why) => {
    console.error("not loaded: " + ajax.url + ": " + request.status + " " + why);
  });
});
</script>"""


@dataclass(frozen=True)
class Page:
    """What a page became: its elements, and all that is on its console, each as `text address (line)`."""

    dom: str
    console: list[str]


def _program(*names: str) -> str:
    for path in filter(None, map(shutil.which, names)):
        return path
    raise RuntimeError(f"{' or '.join(names)} is not on the PATH: install {names[0]} (apt-get install {names[0]})")


def scripts(cache: Path) -> Path:
    """Install what asv's pages load from other hosts into `cache`, and give the folder for `serve`."""
    return installed(cache, sorted({package for package, _ in FILES.values()}))


def installed(cache: Path, packages: list[str]) -> Path:
    """Install packages of npm into `cache`, and give the folder that they are in."""
    cache.mkdir(parents=True, exist_ok=True)
    options = ["--no-save", "--no-package-lock", "--ignore-scripts", "--no-audit", "--no-fund"]
    command = [_program("npm"), "install", "--prefix", str(cache), *options, *packages]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}:\n{done.stderr[-2000:]}")
    return cache / "node_modules"


def _local(element: re.Match[str]) -> str:
    """Give an element of index.html so that it loads nothing from another host."""
    address = re.search(r"""(?<=["'])(?:https?:)?//[^/"']+/([^"']*)""", element[0])
    if address is None:
        return element[0]
    if address[1] not in FILES:
        raise RuntimeError(f"index.html loads {address[0]}, which {__file__} does not know: add it to FILES")
    package, file = FILES[address[1]]
    text = element[0].replace(address[0], f"node_modules/{package.rpartition('@')[0]}/{file}")
    return re.sub(r"""\sintegrity=(["']).*?\1""", "", text) if package in DIFFERENT else text


@contextlib.contextmanager
def serve(folder: Path, scripts: Path) -> Iterator[str]:
    """Serve what `asv publish` wrote to `folder`, with the `scripts` from here, and give the address without a slash.

    index.html is read when this begins; all else when a page asks for it.
    """
    with tempfile.TemporaryDirectory(prefix="copycost-pages-") as site:
        for path in folder.resolve().iterdir():
            (Path(site) / path.name).symlink_to(path)
        (Path(site) / "node_modules").symlink_to(scripts.resolve())
        index = re.sub(r"<(?:script|link|img)\b[^>]*>", _local, (folder / "index.html").read_text("utf-8"))
        before, head, after = index.partition("<head>")
        if not head:
            raise RuntimeError(f"{folder / 'index.html'} has no <head> to report failed loads from")
        (Path(site) / "index.html").unlink()
        (Path(site) / "index.html").write_text(before + head + REPORT + after, "utf-8")
        handler = functools.partial(SimpleHTTPRequestHandler, directory=site)
        with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            try:
                yield f"http://127.0.0.1:{server.server_port}"
            finally:
                server.shutdown()


def visit(
    url: str,
    screenshot: Path | None = None,
    wait: int = 10_000,
    height: int = 900,
    timeout: float = 60,
    width: int = 1280,
    dark: bool = False,
) -> Page:
    """Open a page in Chromium, which is killed after `timeout` seconds, and give what became of the page.

    `wait` is in milliseconds of the page's own clock, which leaps from timer to timer and stands still while a file
    is loaded: they pass faster than they say, and what the page loads and draws in them is there. `height` is that of
    the window in pixels: asv's grid draws only the graphs that are in the window.
    """
    program = _program("chromium", "chromium-browser", "google-chrome")
    command = [program, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    # No other host, and no proxy that could reach one.
    command += ["--no-proxy-server", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]
    command += [
        f"--window-size={width},{height}",
        f"--blink-settings=preferredColorScheme={0 if dark else 1}",
        f"--virtual-time-budget={wait}",
        "--enable-logging=stderr",
        "--dump-dom",
    ]
    if screenshot is not None:
        screenshot.unlink(missing_ok=True)
        command.append(f"--screenshot={screenshot.resolve()}")
    with tempfile.TemporaryDirectory(prefix="copycost-chromium-", ignore_cleanup_errors=True) as profile:
        command += [f"--user-data-dir={profile}", url]
        pipe = subprocess.PIPE
        # In a session of its own, so that all its processes can be ended with it.
        with subprocess.Popen(command, stdout=pipe, stderr=pipe, start_new_session=True) as browser:
            try:
                dom, log = (data.decode("utf-8", "replace") for data in browser.communicate(timeout=timeout))
            except subprocess.TimeoutExpired:
                raise RuntimeError(f"{url}: {program} was not done with it after {timeout} s") from None
            finally:
                if browser.poll() is None:
                    os.killpg(browser.pid, signal.SIGKILL)
    # The second is what Chromium shows instead of a page that it cannot load; it ends with 0 all the same.
    if browser.returncode or 'id="main-frame-error"' in dom or (screenshot is not None and not screenshot.exists()):
        raise RuntimeError(f"{url}: {program} could not show it (exit status {browser.returncode}):\n{log[-2000:]}")
    return Page(dom, [" ".join(found) for found in CONSOLE.findall(log)])
