from ptune import PtuneError, Template
from ptune.template import resolve, templates

template = Template.parse('{soft:"In one word" id=a} {text max=64 trim=head} It was {mask}.')
print(template)
print(template.field_names, template.num_masks)

# OpenPrompt's form of the same nodes
print(Template.parse('{"placeholder": "text_a"} {"soft": None, "duplicate": 5} It was {"mask"}.'))

# what one row becomes: white space in front of the mask goes to the label word
for segment in Template.parse("{text} It was {mask}.").render({"text": "Good soup."}):
    print(segment)

# the space that a word gets in the gap
assert Template.parse("{text} It was{mask}").word_prefix("great") == " "
assert Template.parse("{text} 总体来说，很{mask}").word_prefix("好") == ""

# mistakes come with their column and a remedy
try:
    Template.parse("{text} It was [MASK].")
except PtuneError as error:
    print(error)

# templates to start from
for entry in templates(task="sentiment", language="zh"):
    print(entry.id, entry.template)
print(resolve("library:en/sentiment/it-was-open"))
