// The page is painted first: what makes it live would take its time.

let isStarted = false;

function start() {
  if (isStarted) return;
  isStarted = true;
  document.head.append(document.getElementById("modules").content);
  import("./main.js");
}

new PerformanceObserver(start).observe({ type: "paint", buffered: true });
setTimeout(start, 500); // in a window that nobody sees, nothing is painted
