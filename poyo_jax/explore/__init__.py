"""Explorer: a page on this machine that shows a model at work on recordings.

`explorer` knows what the page asks for, `questions` reads what it sends, `server` speaks HTTP. The
page is `page.html` with the style and the scripts beside it: `page.js` its state, `drawing.js` what
is drawn, `series.js` the arithmetic.
"""
