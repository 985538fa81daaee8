// The page is painted first: what makes it live would take its time.

function start() {
  document.head.append(document.getElementById("modules").content);
  import("./main.js");
}

if (document.hidden) start();
else requestAnimationFrame(() => setTimeout(start));
