"""Counts what the checks of this folder found out."""


class Tally:
    def __init__(self):
        self.passed = self.failed = 0

    def count(self, good, why):
        self.passed += bool(good)
        self.failed += not good
        if not good:
            print(why)

    def end(self):
        """Prints the sum; the exit status."""
        print(f"{self.passed} passed, {self.failed} failed")
        return self.failed > 0
