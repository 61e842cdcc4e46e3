"""Rules for texts from outside: they can be stored and are not empty."""

from pydantic import AfterValidator, Field, SecretStr


def _without_nul[Text: (str, SecretStr)](text: Text) -> Text:
    if "\0" in (text if isinstance(text, str) else text.get_secret_value()):
        raise ValueError("Text cannot contain NUL")  # Postgres cannot store it
    return text


WITHOUT_NUL = AfterValidator(_without_nul)
# JSON Schema has no trimming; the pattern has the same effect.
DESCRIBED = Field(
    description="Trimmed; any Unicode but NUL",
    json_schema_extra={"pattern": r"^[^\x00]*[^\s\x00][^\x00]*$"},
)
