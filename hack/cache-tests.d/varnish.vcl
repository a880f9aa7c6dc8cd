vcl 4.1;

# Varnish before the suite's origin, as it comes.
backend default {
	.host = "127.0.0.1";
	.port = "@ORIGIN@";
}
