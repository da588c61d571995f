// The token of a redirect URL is in the fragment, which a browser does not send to the server. This script
// reads the token, removes it from the address bar and the history, and posts it to open the signer's pages.
"use strict";

const START = "#/redirect/";

const enter = () => {
  if (!location.hash.startsWith(START)) return;
  const token = location.hash.slice(START.length);
  history.replaceState(null, "", location.pathname);
  document.querySelector("[data-front]").hidden = true;
  const opening = document.querySelector("[data-opening]");
  opening.hidden = false;
  const form = opening.querySelector("form");
  form.elements.token.value = token;
  form.submit();
};

addEventListener("hashchange", enter);
enter();
