// What depart.js kept.
const on = document.getElementById("on");
const key = `usher-fragment-${on.dataset.try}`;
const fragment = sessionStorage.getItem(key) ?? "";
sessionStorage.removeItem(key);
location.replace(on.href + fragment);
