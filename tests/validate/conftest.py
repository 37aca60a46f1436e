"""What the tests of validate share: a settled environment, and one gate's import for all of them."""

from stages.validate.environment import settle

settle()
