// The token of a redirect URL stands in the fragment, which a browser keeps to itself: it is read here,
// taken out of the address and the history, and posted in exchange for the signer's pages.
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
