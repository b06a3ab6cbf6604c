"""The console: pages for operators and auditors, and those about webhooks for participants, too.

They are made on the hub and readable without JavaScript.

A new page is

1. a row of ``CONSOLE`` in ``hub/doors/access.py`` and its handler in ``routes.py``,
2. a module here with a frozen struct (what the page shows), a pure function that makes it, and the
   handler that asks ``hub.queries``, calls it and gives ``visit.page(template, view)``,
3. a template in ``templates/`` that extends ``layout.html``; every text in it stands in ``_()``,
   and what a participant wrote goes through ``|bdi``,
4. its texts in each of ``translations/*.po``,
5. its path in ``PAGES`` of ``tests/browser/console.py``, so that it is looked at in a browser.

A form posts to a route of its own with ``{{ csrf }}`` in it; the handler reads it by
``visit.form(Struct)`` and answers with ``see(path)``, so that no reload does it twice. An element
with an ``id`` and ``data-live`` is brought up to date while the page is open; since that asks for
the page again, a page that is recorded in the log when it is looked at has none.
"""
