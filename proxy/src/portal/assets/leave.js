// On to the provider, as the operator wants it.
location.replace(document.getElementById("leave").href);
