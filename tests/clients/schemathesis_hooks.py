"""What schemathesis has to be told to send: JSON lines are text, as CSV is."""

import schemathesis

schemathesis.serializer.alias("application/jsonlines", "text/plain")
