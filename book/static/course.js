/* What scrolls sideways must be reachable with the keyboard; whether it scrolls depends on the window. */
(function () {
  const selector = "div.math, mjx-container[display='true'], div.highlight pre, .course-table, .cell_output pre";
  function mark() {
    for (const element of document.querySelectorAll(selector)) {
      if (element.scrollWidth > element.clientWidth + 1 && getComputedStyle(element).overflowX !== "visible") {
        element.tabIndex = 0;
      } else {
        element.removeAttribute("tabindex");
      }
    }
  }
  let waiting = 0;
  function later() {
    clearTimeout(waiting);
    waiting = setTimeout(mark, 100);
  }
  window.addEventListener("resize", later);
  window.addEventListener("load", function () {
    mark();
    if (window.MathJax && MathJax.startup && MathJax.startup.promise) MathJax.startup.promise.then(mark);
  });
})();
