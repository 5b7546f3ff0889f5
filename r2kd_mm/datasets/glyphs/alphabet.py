"""List the 100 characters of Glyph-100, and the fonts that they are taken from."""

import string
import unicodedata

# Characters with equal outlines in one of the fonts below cannot be two classes: of Latin A, Greek Alpha and Cyrillic A
# only the first is here. tests/datasets/test_glyph100.py compares all pairs in all fonts.
LATIN = string.digits + string.ascii_uppercase + string.ascii_lowercase
GREEK = 'ΓΔΘΛΞΠΣΦΨΩ' + 'αβγδεηικλμνρστυχω'
CYRILLIC = 'БИЦЧШЩЫЬЭЯ' + 'б'
CHARACTERS = LATIN + GREEK + CYRILLIC


def class_name(character: str) -> str:
    """Return the Unicode name of a character in lower case, without 'letter': ``'latin small a'``, ``'digit zero'``."""
    return unicodedata.name(character).replace('LETTER ', '').lower()


CLASSES = tuple(map(class_name, CHARACTERS))

# SHA-256 of the font files that matplotlib ships (DejaVu 2.35, STIX 1.0): other outlines would be other images.
FONTS = {
    'DejaVuSans.ttf': '3fdf69cabf06049ea70a00b5919340e2ce1e6d02b0cc3c4b44fb6801bd1e0d22',
    'DejaVuSans-Bold.ttf': 'b184b89e3c1075f22f6b71575b6fc20d4972b3cfd3b23322ca6fd596dcaef167',
    'DejaVuSans-BoldOblique.ttf': '6edf0283160186af451cbee71e7b845f2e4cabf264bb992ce668c83c25465e6f',
    'DejaVuSans-Oblique.ttf': 'ccdf74b350f11fd3dd5774de50e5e6346a1a5da1f5b7d5fb83590665e97a5213',
    'DejaVuSansMono.ttf': '602ec86b8948cfcd956482fe64f94c36c867770149ef2f791d4613f443bcecb3',
    'DejaVuSansMono-Bold.ttf': 'baada9a5172fe20886251aff0433fc38461912d5daf07287e7bee56620a8da96',
    'DejaVuSerif.ttf': '107244956e9962b9e96faccdc551825e0ae0898ae13737133e1b921a2fd35ffa',
    'DejaVuSerif-Bold.ttf': 'c3753f2ed6bc673f15846dc45addbeb3b9c872f32fb18fd53a21f1bef1ed7676',
}
# in the split 'shifted' alone
SHIFTED_FONTS = {
    'DejaVuSerif-BoldItalic.ttf': 'd93efec7a9d2e826768d1a2ee95b95870e15e29599a84f3484af1de1cec2e181',
    'DejaVuSerif-Italic.ttf': '3e7994fbc54fa10ce3352a42d548fadd7d9cadb69cb1109bc9d960f6dac57f04',
    'STIXGeneral.ttf': '167378031e2dddc6216d67819c9260e9a06ffc4c478e4e23cb98a6fd44b183c2',
    'STIXGeneralBol.ttf': 'e8533dc7083fa346bda1933d60ea4a83b67d0945bceaf1b3541f82b4a0e2c6a0',
    'STIXGeneralBolIta.ttf': '98788fd4ba48dfbb2bd026c0e20a247a8b06c7372879628b7a6bb0d5bb09736c',
    'STIXGeneralItalic.ttf': '6cfcb333d22b7c3c623bdfd40174f14c85c3d6731ca6166c1edc80140eae8527',
}
